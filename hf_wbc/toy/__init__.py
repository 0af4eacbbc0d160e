"""Toy archives: drawn cells of all eleven classes from three laboratories that are unlike."""
