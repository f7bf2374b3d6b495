"""An evaluation for people: tables, sentences, plots, a page for a browser, a model card."""
