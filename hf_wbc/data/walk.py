"""Finding the images of an archive whose classes are folders: `.../FOLDER/CODE_number.suffix`.

Copies of one archive differ in where its folders lie, in upper and lower case, and in what was
added to file names on the way; a zip that was unpacked into a folder of its own name has that
folder twice. The entries are the same for all of them.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping

from hf_wbc.data.source import Entry, Readable

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp")
_PACKED_SUFFIXES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


def class_folders(
    archive: Readable,
    title: str,
    folders: Mapping[str, Collection[str]],
    published: Callable[[str], str] = str,
) -> Iterator[Entry]:
    """Entries in the order of their image ids.

    `folders` maps a folder, in lower case, to the codes that it may hold. `published` turns a
    copy's file name into the one that the archive was published with; its code is what stands
    before its last underscore. A code that nobody knows is yielded as it stands, so that the
    builder names it; files beside the class folders are passed over unless they are images.

    ValueError when it is another archive, when the folders are there twice, when a file lies in
    the folder of another class, and when two files are one image id.
    """
    known = {code for codes in folders.values() for code in codes}
    root = _root(archive.names, title, folders, published)
    entries: dict[str, Entry] = {}
    for name in archive.names:
        place = _place(name)
        if not place.startswith(root):
            continue
        *parents, file_name = place.removeprefix(root).split("/")
        codes = folders.get(parents[0].lower()) if len(parents) == 1 else None
        if codes is None and not file_name.lower().endswith(IMAGE_SUFFIXES):
            continue
        entry = _entry(name, published)
        code = entry.source_label
        if code in known and code not in (codes or ()):
            belongs = " or ".join(folder for folder, held in folders.items() if code in held)
            raise ValueError(f"{name} says {code}, which belongs into the folder {belongs}")
        if other := entries.get(entry.image_id):
            raise ValueError(
                f"{other.member} and {name} are both {entry.image_id}; keep the original one"
            )
        entries[entry.image_id] = entry
    return (entries[image_id] for image_id in sorted(entries))


def listing(names: Collection[str]) -> str:
    """What an archive of these paths holds, in a few words, for an error."""
    counts = Counter(name.rpartition("/")[0] for name in names)
    shown = [f"{folder or 'the top'} ({number} files)" for folder, number in counts.most_common(5)]
    more = [f"{len(counts) - 5} other folders"] if len(counts) > 5 else []
    text = ", ".join([*shown, *more]) + f", such as {min(names)}"
    packed = [name for name in names if name.lower().endswith(_PACKED_SUFFIXES)]
    if not packed:
        return text
    others = f" and {len(packed) - 1} more" if len(packed) > 1 else ""
    return f"{text}; unpack {packed[0]}{others} and give what is in it"


def _place(name: str) -> str:
    """The path without a folder that repeats the one around it."""
    *parents, file_name = name.split("/")
    around = ["", *(folder.lower() for folder in parents)]
    kept = (own for own, outer in zip(parents, around, strict=False) if own.lower() != outer)
    return "/".join((*kept, file_name))


def _entry(name: str, published: Callable[[str], str]) -> Entry:
    image_id = published(name.rpartition("/")[2])
    return Entry(name, image_id, image_id.rpartition("_")[0] or image_id)


def _root(
    names: Collection[str],
    title: str,
    folders: Mapping[str, Collection[str]],
    published: Callable[[str], str],
) -> str:
    """What stands before the class folders in every path, with its slash."""
    roots = set()
    for name in names:
        above, slash, folder = _place(name).rpartition("/")[0].rpartition("/")
        if _entry(name, published).source_label in folders.get(folder.lower(), ()):
            roots.add(above + slash)
    if not roots:
        raise ValueError(
            f"this is not {title}: looked for the folders {', '.join(folders)} with files such as "
            f"{_example(folders)}, and found {listing(names)}"
        )
    if len(roots) > 1:
        places = ", ".join(root or "the top" for root in sorted(roots))
        raise ValueError(f"{title} lies here more than once: {places}; give one of them")
    return roots.pop()


def _example(folders: Mapping[str, Collection[str]]) -> str:
    folder, codes = next(iter(folders.items()))
    return f"{folder}/{min(codes)}_..."
