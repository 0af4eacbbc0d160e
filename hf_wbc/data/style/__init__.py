"""Source images in the target's style, without a label: five ways, one a file.

The one called "colours" is a linear map of colours, which costs nothing beside the other changes of
colour and so lies with them, in `hf_wbc.data.colour` and `hf_wbc.data.colour_statistics`.
"""
