"""A check for the filter `program`: answers of more than 40 characters."""


def check(row):
    return len(row["messages"][-1]["content"]) > 40
