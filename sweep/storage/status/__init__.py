"""How a run stands, from its run folder alone.

Reading order: `reader`, with the `best_so_far`, the `time_left`, which failed trials run `again`,
the arms of several `starts`, and what else there is to say (`notes`).
"""
