"""The template language of `data`: a template as a function of JSON values, its modifiers, and its bounds. Pure."""
