"""What may stand in a grid file: each key with its type, its default and its sentence.

`schema` is the whole of it, of `axes`, `resources`, `choosers`, `trackers` and `apprise_urls`. Made
from it are `json_schema` (for editors) and `reference` (for people).
"""
