"""YAML that refuses repeated keys. By default the last one would win."""

import yaml

__all__ = ["UniqueKeyLoader"]


class UniqueKeyLoader(yaml.SafeLoader):
    """Loader that raises a ValueError if a mapping repeats a key."""

    def compose_mapping_node(self, anchor):
        """Compose a mapping, and check that no key is repeated."""
        node = super().compose_mapping_node(anchor)
        keys = []
        for key, _ in node.value:
            if key.value in keys:
                raise ValueError(
                    f"{key.value}: given twice, again in line "
                    f"{key.start_mark.line + 1}; keep one"
                )
            # << may merge several mappings.
            if key.tag != "tag:yaml.org,2002:merge":
                keys.append(key.value)
        return node
