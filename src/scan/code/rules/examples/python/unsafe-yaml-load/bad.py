import yaml


def settings(path):
    with open(path) as f:
        return yaml.load(f, Loader=yaml.Loader)  # BAD


def all_of(text):
    return list(yaml.load_all(text, yaml.UnsafeLoader))  # BAD
