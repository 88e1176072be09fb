"""`/api/v1`: all that the commands do, over HTTP. Each route is declared once, and from that comes everything else.

`route` holds the declaration, `asking` reads and checks a request, `answering` runs the route and encodes its answer,
`description` writes the OpenAPI document. The other modules hold the routes, one module for each thing they are about.
"""
