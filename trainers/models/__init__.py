"""Weights and tokenizers from the hub, folders, GGUF files and packages.

Reading order: `load`, `adapters`, `shapes`, `chat_template`, `gguf`, `tiny`, `fingerprint`,
`licence`.
"""
