import numpy as np

from lora_engine.views import SheetCell, contact_sheet


def test_pictures_stand_in_their_rows_and_columns():
    """Each cell shows its picture, and text is written under it."""
    red, blue = (np.full((8, 8, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    sheet = contact_sheet([[SheetCell(red), SheetCell(blue)], [SheetCell(blue, "text")]], side=64)
    height = sheet.shape[0] // 2
    assert tuple(sheet[36, 36]) == (255, 0, 0)
    assert tuple(sheet[36, 36 + 68]) == (0, 0, 255)
    assert tuple(sheet[36 + height, 36]) == (0, 0, 255)
    under = slice(68, height)
    assert (sheet[under] == 255).all()
    assert (sheet[height + 68 :, :68] < 100).any()
