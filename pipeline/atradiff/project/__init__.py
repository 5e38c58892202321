"""The project folder: where everything lies, and how trained parts are put together again."""
