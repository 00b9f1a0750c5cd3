"""The account page: what a student owes for each term, what awaits approval, and a form that submits a payment once.

`view` decides what is shown, `form` reads what was typed, `routes` serves it; markup, style and script lie beside them.
"""

from reference_impl.service.page.routes import NEEDED, add_page

__all__ = ["NEEDED", "add_page"]
