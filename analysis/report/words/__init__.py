"""What the report says, in sentences: the seven answers (`sentences`), the setting to use and the
headline (`setting_sentences`), a third axis (`axis_sentences`)."""
