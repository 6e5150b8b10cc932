"""Rendered heads with exact ground truth: ICT-FaceKit geometry, procedural looks, scripted expressions, any
camera.

`raf-lite data rig` fetches the rig; `raf-lite data build` renders everything under data/ with it.
"""
