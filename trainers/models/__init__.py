"""Weights and tokenizers from the hub, folders, GGUF files and packages.

Reading order: `load`, `chat_template`, `gguf`, `tiny`, `licence`.
"""
