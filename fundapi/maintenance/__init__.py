"""Operations on the database: ``backup`` and restore, ``consistency`` of funds and answers, ``privileges`` of roles."""
