"""The text of a PDF that Chromium printed, page by page, without a PDF library."""

import re
import unicodedata
import zlib

OBJECT = re.compile(rb"(?:^|\n)(\d+) 0 obj\b(.*?)\bendobj", re.S)
STREAM = re.compile(rb"stream\r?\n(.*?)\nendstream", re.S)
SHOWN = re.compile(rb"/(\w+) [\d.]+ Tf|<([0-9A-Fa-f]+)> ?Tj|\[(.*?)\] ?TJ", re.S)


def stream_of(body):
    "The content of an object's stream, unpacked."
    found = STREAM.search(body)
    data = found[1] if found else b""
    # packed data may end in any byte, a carriage return among them; what follows their end is left alone
    return zlib.decompressobj().decompress(data) if b"FlateDecode" in body else data


def letters_of(cmap):
    "{glyph: text} of a font's ToUnicode table."
    found = {}
    for part in re.findall(rb"beginbfchar(.*?)endbfchar", cmap, re.S):
        for glyph, text in re.findall(rb"<(\w+)> <(\w+)>", part):
            found[int(glyph, 16)] = bytes.fromhex(text.decode()).decode("utf-16-be")
    for part in re.findall(rb"beginbfrange(.*?)endbfrange", cmap, re.S):
        for first, last, text in re.findall(rb"<(\w+)> <(\w+)> <(\w+)>", part):
            for i in range(int(first, 16), int(last, 16) + 1):
                found[i] = chr(int(text, 16) + i - int(first, 16))
    return found


def words_of(content, fonts):
    "The text that a page's content shows."
    letters, text = {}, []
    for font, single, several in SHOWN.findall(content):
        if font:
            letters = fonts.get(font, {})
        for part in [single, *re.findall(rb"<([0-9A-Fa-f]+)>", several)]:
            glyphs = re.findall(rb"....", part)
            text += [letters.get(int(g, 16), "") for g in glyphs]
    return "".join(text)


def fonts_of(body, objects):
    "{font: {glyph: text}} of a page, or of a part of one."
    fonts = {}
    for name, number in re.findall(rb"/(F\d+) (\d+) 0 R", body):
        table = re.search(rb"/ToUnicode (\d+) 0 R", objects[int(number)])
        fonts[name] = letters_of(stream_of(objects[int(table[1])])) if table else {}
    return fonts


def parts_of(body, objects):
    "The forms that a page, or a part of one, is made of: what is blended as a whole is drawn apart."
    numbers = re.findall(rb"/X\d+ (\d+) 0 R", body.partition(b"stream")[0])
    forms = [objects[int(number)] for number in numbers]
    return [form for form in forms if b"/Subtype /Form" in form.partition(b"stream")[0]]


def text_of(body, content, objects):
    "The text of a page, or of a part of one, and of the parts in it."
    inner = (text_of(form, form, objects) for form in parts_of(body, objects))
    return words_of(stream_of(content), fonts_of(body, objects)) + "".join(inner)


def pdf_pages(data):
    "The text of each page without its spaces, in order."
    objects = {int(number): body for number, body in OBJECT.findall(data)}
    pages = []
    for body in objects.values():
        if not re.search(rb"/Type /Page\b(?!s)", body):
            continue
        content = re.search(rb"/Contents (\d+) 0 R", body)
        text = text_of(body, objects[int(content[1])], objects)
        pages.append("".join(unicodedata.normalize("NFKC", text).split()))  # no ligatures
    return pages
