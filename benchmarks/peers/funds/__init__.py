"""The app of a team that stores funds without us: the product's table, and plain Django."""
