"""What devices ask: questions of their trade, which the sample handbook answers."""

import random

from fieldpost.messages.devices import DeviceKind

_DRIVING = (
    "How long may I drive without a break?",
    "May I split the break into 15 and 30 minutes?",
    "How many hours may I drive in a day?",
    "How long is the regular daily rest?",
    "How many hours may I drive in two weeks?",
    "What is the minimum tread depth of the tyres?",
    "A brake light has failed: may I depart?",
    "Which papers belong in the cab?",
    "When do I tighten the wheel nuts again after a wheel change?",
    "What belongs into the transport document for petrol?",
)
_STORING = (
    "How many Euro pallets fit in a semi-trailer of 13.6 m?",
    "What is the safe load of an industrial pallet?",
    "How heavy is an empty Euro pallet?",
    "How warm may poultry be?",
    "How long is the trailer pre-cooled for frozen goods?",
    "At which temperature are cooled medicines kept?",
    "Which class are flammable liquids?",
    "How many loading metres does an industrial pallet take?",
    "Who may drive dangerous goods?",
)
_PLANNING = (
    "How many hours may a driver drive in one week?",
    "How long is an ADR certificate valid?",
    "Which vehicles do the driving time rules hold for?",
    "What does a sample transport document look like?",
    "How many Euro pallets fit in a container of 20 ft?",
    "When is a walk-round done?",
    "How cold is ice cream transported?",
    "Which goods are in class 8?",
)
QUESTIONS = {DeviceKind.TRUCK: _DRIVING, DeviceKind.WAREHOUSE: _STORING, DeviceKind.OFFICE: _PLANNING}


def pick(kind: DeviceKind, source: random.Random) -> str:
    """A question that a device of this kind would ask."""
    return source.choice(QUESTIONS[kind])
