"""An evaluation for people: tables, sentences, pictures, a page for a browser, a model card."""
