from django.http import HttpResponse


def quotes(text):
    return text.replace('"', "&quot;")


def hello(request):
    return HttpResponse("<h1>%s</h1>" % quotes(request.GET["name"]))  # BAD


def first(request):
    name = request.GET["name"].replace("<", "&lt;", 1)
    return HttpResponse("<h1>%s</h1>" % name)  # BAD


def back(request):
    name = request.GET["name"].replace("<", "<<")
    return HttpResponse("<h1>%s</h1>" % name)  # BAD
