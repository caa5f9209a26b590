"""A run's copy in an object store, for nodes that share no folder.

Reading order: `object_store`, `lock`, `mirror_files`, `segments`, `mirror`, `weights`.
"""
