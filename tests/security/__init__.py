"""Who may know: nobody is told of a record, or of its leaving, that the API would not show them."""
