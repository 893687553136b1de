"""Any number of rows, in order and in bounded memory."""
