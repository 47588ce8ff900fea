"""Documents that can be asked: read, cleaned, cut, embedded, stored, found."""
