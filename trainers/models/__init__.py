"""Weights and tokenizers from the hub, folders, GGUF files and packages.

Reading order: `load`, `adapters`, `at_hand` and `shapes` (for plans), `chat_template`, `gguf`,
`tiny`, `fingerprint`, `licence`.
"""
