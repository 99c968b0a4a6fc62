"""The methods that are trained and compared here: for each name, its module.

A module is imported only where its method runs. docs/developing.md says what it has to give.
"""

METHODS: dict[str, str] = {
    "bot": "pgfl.methods.bot",
    "horeid": "pgfl.methods.horeid.method",
    "pcb": "pgfl.methods.pcb",
    "pgfa": "pgfl.methods.pgfa",
    "pgfl_kd": "pgfl.methods.pgfl_kd.method",
    "pvpm": "pgfl.methods.pvpm",
}
