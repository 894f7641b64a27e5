"""Spectra of the materials that synthetic patches consist of."""

import numpy as np
import numpy.typing as npt

from eurosat.bands import BANDS

# Top-of-atmosphere digital numbers. Most rows are cluster centres (k-means, six per class) of the
# EuroSAT100 sample, which has ten 13-band patches of each class of EuroSAT (Helber et al. 2019,
# IEEE JSTARS 12(7)); a row is named after the material in the patches. The rows "shade",
# "clear-water" and some others were mixed or adjusted by hand.
_TABLE = """
material      B01  B02  B03  B04  B05  B06  B07  B08  B8A  B09  B10  B11  B12
deep-water   1090  760  480  255  217  197  180  150  141   67    8   33   19
clear-water  1228  925  755  455  460  297  282  222  202   60    7   46   28
green-water  1400 1200 1180  760  677  368  339  279  243   90    9   64   43
turbid-water 1321 1133 1029 1030 1042  876  897  755  699  145    9  166  133
broadleaf    1100  805  690  400  750 2400 3100 3050 3450  800    9 1500  580
conifer      1180  850  640  388  580 1480 1830 1730 2030  560   10  800  325
shade        1060  740  520  330  400  800  960  900 1060  350    9  560  300
grass        1120  870  895  500 1140 3400 4300 4250 4750 1300   12 1880  800
meadow       1165  915  890  620 1140 2750 3400 3350 3800 1000   12 1980  930
dry-grass    1340 1120 1070 1150 1480 2000 2280 2300 2570 1050   16 2600 1720
shrub        1227  890  700  530  760 1400 1640 1600 1800  740   11 1200  680
green-crop   1310 1000 1015  640 1220 3550 4440 4330 4780  915   12 1880  870
young-crop   1300 1024  984  790 1159 2452 3032 2906 3353  680   12 1960 1040
stubble      1540 1470 1580 1920 2080 2730 3110 3020 3414  820   15 3350 2310
brown-soil   1428 1260 1236 1430 1600 2060 2350 2230 2640  610   13 2900 2030
pale-soil    1690 1850 2060 2700 2900 3400 3830 3780 4330 1050   16 4200 2840
asphalt      1460 1210 1080 1060 1150 1330 1450 1270 1540  430   11 1580 1260
concrete     1730 1720 1690 1820 1880 2200 2400 2280 2560  680   13 2600 2020
metal-roof   2625 3386 3385 3710 3530 3743 3927 3949 4027 1160   15 3870 2920
tile-roof    1500 1340 1330 1800 1930 2200 2400 2300 2560  640   12 2560 2060
garden       1330 1010  920  720 1080 2150 2580 2580 2860  670   12 1850 1060
"""
_HEADER, *_LINES = (line.split() for line in _TABLE.strip().splitlines())
SPECTRA: dict[str, npt.NDArray[np.float32]] = {
    name: np.array([float(values[_HEADER.index(band.name) - 1]) for band in BANDS], np.float32)
    for name, *values in _LINES
}
"""Top-of-atmosphere digital numbers by material, float32, shape (13,), in the order of `BANDS`."""
