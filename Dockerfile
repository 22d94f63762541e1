# The demo and its API on port 7860, for CPUs:
#   docker build -t stroke-hub . && docker run --rm -p 127.0.0.1:7860:7860 stroke-hub
FROM python:3.12-slim
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY stroke_hub stroke_hub
RUN pip install --no-cache-dir '.[demo]' && rm -rf build stroke_hub
COPY space space
RUN useradd --create-home app
USER app
# inside the container all addresses; what `docker run -p` opens decides who reaches it
ENV GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=7860
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/', timeout=4)"]
CMD ["python", "space/app.py"]
