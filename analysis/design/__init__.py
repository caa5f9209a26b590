"""Which cells to run next, and what a grid can see before it runs.

Reading order: `space` (what may be run, and what would probably diverge), `start` (the first
cells), `screening` (what short runs say of these), `questions` (what is asked, and whether it is
answered), `choose` (what each candidate would tell), `decide` (the next cells, or why to stop);
`power` (what a grid can see).
"""
