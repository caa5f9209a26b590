"""What a plan takes: FLOPs, hours, device-hours and money, stated by the grid or measured.

Reading order: `calibration` (what was measured) with `calibration_file`, `cost` (hours), `money`,
`chosen` (where not all that is planned runs). It stands on `sweep.plan`.
"""
