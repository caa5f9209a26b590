"""The forms that a row may have, to text.

Reading order: `messages`, `conversation`, `rendering` with `left_out`, `tokenize`; `pairs` with
`preference_pairs`, and `rlvr_prompts`, for those kinds; `layouts` says which form goes with which
kind of stage; `turns` reads any of them for an audit.
"""
