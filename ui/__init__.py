"""The web page: one module for each tab, and what they share. Only here is gradio imported."""
