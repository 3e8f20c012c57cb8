"""YAML in which nothing is said twice: of two equal keys the last would win."""

import yaml

__all__ = ["UniqueKeyLoader"]


class UniqueKeyLoader(yaml.SafeLoader):
    """Loader that refuses two equal keys in one place, by a ValueError."""

    def compose_mapping_node(self, anchor):
        """Compose a mapping whose keys differ.

        Parameters
        ----------
        anchor : str or None
            Its name in the document.

        Returns
        -------
        yaml.MappingNode
            The mapping.
        """
        node = super().compose_mapping_node(anchor)
        keys = []
        for key, _ in node.value:
            if key.value in keys:
                raise ValueError(
                    f"{key.value}: given twice, again in line "
                    f"{key.start_mark.line + 1}; keep one"
                )
            # Mappings are merged by << as often as one likes.
            if key.tag != "tag:yaml.org,2002:merge":
                keys.append(key.value)
        return node
