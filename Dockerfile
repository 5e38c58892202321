# docker build -t atradiff .
# docker run -it --name atradiff -v "$PWD/runs:/opt/atradiff/runs" atradiff    # runs and their reports are seen outside, too
# docker start -ai atradiff    # the same container again, with its params.yaml, data and models
# With a GPU: add --gpus all. Prefect's pages at http://localhost:4200: add -p 4200:4200 -e PREFECT_SERVER_API_HOST=0.0.0.0
# -e PREFECT_SERVER_UI_API_URL=http://localhost:4200/api -e PREFECT_UI_URL=http://localhost:4200, and call `atradiff ui`; docker exec -it atradiff bash is a second terminal.
FROM python:3.11-slim
# git for DVC and a run's provenance; the rest draws films without a screen
RUN apt-get update \
    && apt-get install -y --no-install-recommends git libegl1 libopengl0 libgl1-mesa-dri \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/atradiff
COPY . .
RUN pip install --no-cache-dir -c constraints.txt -e '.[video,tensorboard]'
CMD ["bash"]
