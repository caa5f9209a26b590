"""Plan and run a sweep: grid file in, run folder out.

Reading order: run -> config -> plan -> trial -> store, then local and cluster.
"""
