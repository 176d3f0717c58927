import pytest

from langhops_cli.vocabulary import VocabularyError, parse_vocabulary

EXPECTED = parse_vocabulary("dog:head(ear,eye),leg*4; car")


def written(folder, name, text):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return f"@{path}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tree.yaml", "dog:\n  head: {ear: , eye: }\n  leg: {count: 4}\ncar:\n"),
        ("list.yml", "dog: ['head(ear,eye)', leg*4]\ncar:\n"),
        ("entries.yaml", "- dog:head(ear,eye),leg*4\n- car\n"),
        ("tree.json", '{"dog": {"head": {"ear": null, "eye": null}, "leg": {"count": 4}}, "car": null}'),
        ("entries.json", '["dog:head(ear,eye),leg*4", "car"]'),
        ("names.txt", "# pets\ndog:head(ear,eye),leg*4   # four of them\n\ncar\n"),
        ("one_line.TXT", "dog:head(ear,eye),leg*4; car"),
        ("marked.txt", b"\xef\xbb\xbfdog:head(ear,eye),leg*4\r\ncar\r\n"),
    ],
)
def test_every_kind_of_file_gives_the_same_vocabulary(tmp_path, name, text):
    assert parse_vocabulary(written(tmp_path, name, text)) == EXPECTED


def test_files_and_texts_join(tmp_path):
    file = written(tmp_path, "pets.yaml", "dog: [head]\n'*': [logo]\n")
    assert parse_vocabulary([file, "car:wheel"]) == parse_vocabulary("dog:head,logo; car:wheel,logo")


def test_a_part_may_be_called_count(tmp_path):
    file = written(tmp_path, "tree.yaml", "till:\n  count:\n  key: {count: 12}\n")
    assert [(part.name, part.count) for part in parse_vocabulary(file).part_classes] == [("count", 1), ("key", 12)]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.yaml", "dog: [head\ncar:\n", "a.yaml, line 2: not YAML: "),
        ("a.yaml", "dog:\n  head:\ncar:\ndog:\n", "a.yaml: 'dog' stands twice at one level"),
        ("a.yaml", "dog:\n  head: {ear: }\n  ear:\n", "a.yaml: dog: part 'ear' stands twice"),
        ("a.yaml", "dog:\n  leg: {count: 0}\n", "a.yaml: dog: leg: a count goes from 1 to 64, not 0"),
        ("a.yaml", "dog:\n  leg: {count: 1.5}\n", "a.yaml: dog: leg: a count is a whole number from 1 to 64, not 1.5"),
        ("a.yaml", "dog: {count: 2}\n", "a.yaml: dog: a count belongs to a part, not to an object"),
        ("a.yaml", "dog:\n  leg: 4\n", "a.yaml: dog: leg: expected parts by name, found the number 4"),
        ("a.yaml", "dog:\n  yes:\n", "a.yaml: a name must be text, found yes or no (True); put it in quotes"),
        ("a.yaml", "7:\n", "a.yaml: a name must be text, found the number 7; put it in quotes"),
        ("a.yaml", "' ':\n", "a.yaml: empty object name"),
        ("a.yaml", "a: &a\n  b: *a\n", "a.yaml: a: parts go deeper than 8 levels"),
        ("a.yaml", "dog: [head, 'leg*0']\n", "a.yaml: a count starts at 1\n  leg*0\n      ^"),
        ("a.yaml", "", "a.yaml: expected objects with their parts"),
        ("a.yaml", "dog", "a.yaml: expected objects with their parts"),
        ("a.yaml", "- dog\n- 3\n", "a.yaml: expected objects with their parts"),
        ("a.json", '{"dog": null,}', "a.json, line 1: not JSON: "),
        ("a.json", "[" * 100_000, "a.json: nested too deep"),
        ("a.json", '{"dog": null, "dog": null}', "a.json: 'dog' stands twice at one level"),
        ("a.txt", "dog\ncat:,head\n", "a.txt, line 2: empty part name\n  cat:,head\n      ^"),
        ("a.txt", "# nothing\n", "a.txt: no names in this file"),
        ("a.txt", b"caf\xe9", "a.txt: not UTF-8 at byte 3"),
        ("a.csv", "dog", "a.csv: a vocabulary file ends in .yaml, .yml, .json, .txt"),
    ],
)
def test_mistakes_in_a_file_name_the_file(tmp_path, monkeypatch, name, text, problem):
    written(tmp_path, name, text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VocabularyError) as caught:
        parse_vocabulary(f"@{name}")
    assert str(caught.value).startswith(problem)


def test_a_file_without_its_sign_is_no_name(tmp_path):
    path = tmp_path / "names.yaml"
    path.write_text("dog:\n  head:\n")
    with pytest.raises(VocabularyError, match=r"names\.yaml is a file; a file is given as @.*names\.yaml"):
        parse_vocabulary(str(path))
    path.unlink()
    assert parse_vocabulary("names.yaml").object_names == ("names.yaml",)


def test_a_missing_file_a_folder_and_no_name_are_told(tmp_path):
    with pytest.raises(VocabularyError, match=r"nowhere\.yaml: there is no such vocabulary file"):
        parse_vocabulary(f"@{tmp_path}/nowhere.yaml")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(VocabularyError, match=r"folder\.txt: cannot be read"):
        parse_vocabulary(f"@{tmp_path}/folder.txt")
    with pytest.raises(VocabularyError, match="followed by the name of a vocabulary file"):
        parse_vocabulary("@ ")


def test_the_same_object_in_two_files_is_told(tmp_path):
    texts = [written(tmp_path, "a.yaml", "dog:\n"), written(tmp_path, "b.yaml", "dog: [head]\n")]
    with pytest.raises(VocabularyError, match=r"b\.yaml: object 'dog' stands twice"):
        parse_vocabulary(texts)
