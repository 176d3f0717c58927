import subprocess
import sys

import pytest

import langhops_cli
from langhops_cli import resources
from langhops_cli.errors import UserError


def test_public_names_load_on_first_use():
    script = (
        "import sys, langhops_cli\n"
        "assert set(langhops_cli.__all__) <= set(dir(langhops_cli))\n"
        "tree = langhops_cli.parse_vocabulary('dog:head')\n"
        "assert isinstance(tree, langhops_cli.Vocabulary)\n"
        "assert 'torch' not in sys.modules\n"
        "assert langhops_cli.LangHOPS.__mro__ and 'torch' in sys.modules\n"
        "assert callable(langhops_cli.Predictor.from_pretrained)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Langhop'"):
        langhops_cli.Langhop  # noqa: B018


def test_an_error_for_the_user_carries_its_exit_code():
    assert UserError("x").code == 2
    assert UserError("x", code=3).code == 3


def test_shipped_folders_are_found_beside_the_package_and_inside_it(tmp_path, monkeypatch):
    package = tmp_path / "site" / "langhops_cli"
    package.mkdir(parents=True)
    monkeypatch.setattr(resources, "_PACKAGE", package)
    assert resources.recipes_folder() == tmp_path / "site" / "recipes"
    assert resources.manifests_folder() == tmp_path / "site" / "data_manifests"
    (package / "recipes").mkdir()
    (package / "data_manifests").mkdir()
    assert resources.recipes_folder() == package / "recipes"
    assert resources.manifests_folder() == package / "data_manifests"
    assert resources.assets_folder() == package / "assets"
