"""A check for the filter `program`: answers of at most 40 characters."""


def check(row):
    answer = row["messages"][-1]["content"]
    return len(answer) <= 40 or f"{len(answer)} characters"
