# This program on a machine of your own: docker compose up
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 writer
WORKDIR /app
COPY requirements.txt constraints.txt ./
# PyTorch for CPUs; its usual build brings 2.5 GB for NVIDIA's cards.
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
    -c constraints.txt "torch==2.13.0+cpu" -r requirements.txt
COPY app.py LICENSE README.md ./
COPY gpt2 gpt2
COPY train train
COPY service service
COPY ui ui
COPY models models

# Runs, and what is downloaded, outlive the container in this volume.
RUN install -d -o writer /data
ENV HF_HOME=/data/huggingface XDG_CACHE_HOME=/data/cache
VOLUME /data
USER writer
EXPOSE 7860
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as web; web.urlopen('http://127.0.0.1:7860/health', timeout=5)"]
CMD ["python", "app.py", "--host", "0.0.0.0", "--port", "7860", "--runs", "/data/runs", "--log", "json"]
