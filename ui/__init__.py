"""The web page: one module per tab, and what the tabs share. Gradio is imported only here."""
