"""What only a GPU shows, measured in a few minutes: `python -m tests.gpu`.

`training` and `scoring` measure, `halves` starts two trials on one GPU, `__main__` runs all and
writes gpu.json and gpu.md. Every measurement also runs on a CPU with the tiny model, in
`test_gpu_measurements.py`.
"""
