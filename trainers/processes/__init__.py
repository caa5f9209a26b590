"""The processes of an attempt at a trial. No torch until they compute.

Reading order: `attempt` (signs, fence, end), `process` (settings of one), `devices` (GPUs and cores
that it may use), `replicas` (those that hold the same model), `nodes` (other ones).
"""
