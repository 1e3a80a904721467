"""The strategies, a file each: `hako` finds them by their names, and nothing else names them.

A strategy has
* `fill(boot, bootstrap)`, which fills the folder `boot.rootfs`;
* `SETTINGS`, a literal: the settings that it takes, each with the kind of its values (spec/rules/buildchecks.py) or a tuple of
  words. The first is one that it cannot do without;
* `HELP`, a literal: of each setting, what editors show. `make install` gathers both (tools/write_strategies.py);
* `EXAMPLE`, the lines that `hako new` writes.
It may have
* `KEPT`: what it makes is kept as a layer, under the name that `identify(boot, bootstrap)`, if it is there, returns;
* `TAKES_ROOT`: only the host's root can use it;
* `FOLDER`: what its code calls the folder to fill, if that is not `boot.rootfs`;
* `check_outside(bootstrap, beside)`: called before an ordinary user's build enters its user namespace.
"""
