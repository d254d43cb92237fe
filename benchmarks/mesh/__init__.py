"""Contenders side by side: what a mesh costs connections and traffic. See ``__main__``."""
