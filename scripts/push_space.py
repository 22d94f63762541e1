"""Put the demo into a Hugging Face Space, with a model pinned to the commit that it has now.

python scripts/push_space.py --repo-id owner/space --model owner/name
"""

from stroke_hub.cli.space import publish_space

if __name__ == "__main__":
    publish_space()
