"""Ways to spoil a DL1 file, for tests of what must not go unnoticed."""

import numpy as np
import tables


def change_rows(path, node, change):
    """Replace the rows of a table by ``change(rows)``; attributes stay."""
    parent, _, name = node.rpartition("/")
    with tables.open_file(path, "r+") as file:
        table = file.root[node]
        rows = change(table.read())
        attributes = {n: table.attrs[n] for n in table.attrs._v_attrnamesuser}
        table.remove()
        table = file.create_table(parent, name, obj=rows)
        for name, value in attributes.items():
            table.attrs[name] = value


def change_length(path, node, n_more, columns=("image", "peak_time", "image_mask")):
    """Let images have more pixels than their camera, or fewer."""

    def change(rows):
        fields = []
        for name in rows.dtype.names:
            base, shape = rows.dtype[name].base, rows.dtype[name].shape
            if name in columns:
                shape = (shape[0] + n_more,)
            fields.append((name, base, shape))
        changed = np.zeros(len(rows), fields)
        for name in rows.dtype.names:
            if name in columns:
                n = min(changed[name].shape[1], rows[name].shape[1])
                changed[name][:, :n] = rows[name][:, :n]
            else:
                changed[name] = rows[name]
        return changed

    change_rows(path, node, change)


def lose_attributes(path, node, starting_with=""):
    """Remove the attributes of a table, or some of them."""
    with tables.open_file(path, "r+") as file:
        attributes = file.root[node].attrs
        names = [n for n in attributes._v_attrnamesuser if n.startswith(starting_with)]
        assert names
        for name in names:
            del attributes[name]


def remove(path, *nodes):
    """Remove groups and tables."""
    with tables.open_file(path, "r+") as file:
        for node in nodes:
            file.remove_node(node, recursive=True)
