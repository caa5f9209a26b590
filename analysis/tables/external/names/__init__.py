"""Names that people and tools give: of columns (`columns`), of benchmarks (`benchmarks`), and which
of them are better when higher (`directions`)."""
