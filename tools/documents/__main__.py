"""`python -m tools.documents` writes the documents; with `--check` it only tells what is wrong."""

import argparse
import sys
from pathlib import Path

from tools.dashboards.tables import DASHBOARDS
from tools.documents import ASYNCAPI, DIRECTORY, build_documents, text_of
from tools.documents.checking import faults_of
from tools.documents.metrics import PAGE as METRICS_PAGE
from tools.documents.metrics import page_of_metrics
from tools.documents.rendering import render_pages
from tools.documents.security import PAGE, page_with_table

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards"


def main() -> int:
    """Return 0 when the documents are written (or current) and valid, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m tools.documents", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 on a fault")
    is_check = parser.parse_args().check
    faults = []
    texts: dict[Path, str] = {
        PAGE: page_with_table(PAGE.read_text(encoding="utf-8")),
        METRICS_PAGE: page_of_metrics(),
        **{GRAFANA / f"{one.uid}.json": one.text for one in DASHBOARDS},
    }
    documents = build_documents()
    texts |= render_pages(asyncapi=documents[ASYNCAPI])
    for name, document in documents.items():
        faults += [f"{name} is not valid: {fault}" for fault in faults_of(name, document)]
        texts[DIRECTORY / name] = text_of(document)
    for path, text in texts.items():
        is_current = path.is_file() and path.read_text(encoding="utf-8") == text
        if is_check and not is_current:
            faults.append(f"{path} is not current: run `make documents` and commit the result")
        if not is_check and not is_current:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
