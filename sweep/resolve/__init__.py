"""What has to be known before the first trial starts.

Reading order: `preflight` (resources, disk, data), `pin` (commits of models and data), `calibrate`
(seconds of a step and of an item).
"""
