"""Reports of an evaluation: tables, sentences, plots, an HTML page, a model card."""
