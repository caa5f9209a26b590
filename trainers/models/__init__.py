"""Weights and tokenizers from the hub, folders, GGUF files and packages.

Reading order: `load`, `adapters` with `targets`, `quantized` and `reach`, `dropout`, `at_hand` and
`shapes` (for plans), `chat_template` with `training_templates`, `gguf`, `tiny`, `fingerprint`,
`licence`.
"""
