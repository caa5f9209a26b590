"""Which cells are scores: in a table with a column per score (`wide`), with a row per score
(`long`), and with a column per seed (`seeds_across`)."""
