"""Operations on the database: ``backup`` (and restore), ``consistency`` (funds and answers), ``privileges`` (roles)."""
